"""Who provides the demonstrations: one who can, one who is clumsy, one who wants to fail, one who saves the day."""
