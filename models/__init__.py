"""Networks: timm backbones, their weights, and the heads on them. Imports neither trainer nor data."""
