"""The storage protocol between gateway and storage worker, pure: no zmq, no clock, no log."""
