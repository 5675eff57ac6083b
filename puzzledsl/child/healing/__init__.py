"""Healing after assembly: refit the last linear maps of a child's sub-blocks to the inputs they get in the child."""
