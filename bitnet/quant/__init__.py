"""Weight codecs in numpy: ternary ones, and two of ggml's block formats; ignorant of files."""
