"""Pages and pictures made here: HTML and SVG text, without a script and without anything from outside."""
