"""The replica's HTTP interface, and its admin interface. Knows no rule of execution."""
