"""How fast this machine computes the updates of a run, and under which settings it computes them fastest."""
