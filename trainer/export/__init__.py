"""Trained models as folders that others read: adapters, merged weights, a deployment with its model card."""
