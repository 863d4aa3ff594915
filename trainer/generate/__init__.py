"""Asking a trained model: questions with images, sound and video, answers token by token."""

from trainer.generate.ask import Model, Reply, open_model
from trainer.generate.conversation import Conversation, Given, read_messages
from trainer.generate.sampling import Decoding

__all__ = ["Conversation", "Decoding", "Given", "Model", "Reply", "open_model", "read_messages"]
