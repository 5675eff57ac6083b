"""What other tools leave behind, turned into tables and a program: their users go on with what they have."""
