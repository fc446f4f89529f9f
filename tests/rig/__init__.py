"""The rig: what every test of the outer house stands on. Nothing here judges; the tests do."""
