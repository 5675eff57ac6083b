"""What is to be made, as data: IR to BLD jobs, a solution to a model definition. No torch."""
