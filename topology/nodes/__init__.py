"""What is inside a node: GPUs behind an NVSwitch, linked to each other, or under PCIe switches."""
