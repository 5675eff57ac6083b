"""Memory plan: the peak bytes of every stage from shapes, and the choices that keep them within a device. No torch."""
