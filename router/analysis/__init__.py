"""Pure functions from small tables of sums to figures: no log, no drawing, no clock of their own."""
