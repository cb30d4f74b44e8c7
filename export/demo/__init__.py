"""The demo policy: scripted demonstrations, training, export and offline evaluation."""
