"""What a subnet remembers, as plain records and trees. Nothing here runs, waits or listens."""
