"""After assembly: a child's pieces fitted once more, to what the child itself feeds them."""
