"""The book: its pages, its build, its site."""
