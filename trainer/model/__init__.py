"""The model: encoders, connectors and the language model that they feed."""
