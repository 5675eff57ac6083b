"""Plans as data: BLD jobs and tensor shapes from the IR. No torch."""
