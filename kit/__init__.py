"""What every feature needs and none owns: clock, ids, money, errors, database, Redis, engines."""
