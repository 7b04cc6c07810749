"""Claims about the method: its mathematics, its accounting, and the whole pipeline on a point mass beside a cliff."""
