"""What is found before anything is run: of the installation (`house`), and of one experiment (`planned`)."""
