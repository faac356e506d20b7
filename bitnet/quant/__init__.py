"""Ternary codecs in numpy: exact, lazy by rows, ignorant of files."""
