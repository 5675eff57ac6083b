"""The language server: one module a feature, from a document and a place to what editors show; `app` speaks the protocol."""
