"""Networks as files for other runtimes: ONNX, torch.export, folders and pages around them."""
