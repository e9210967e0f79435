//! Tells what Isotherm would have done with a log: its parts that need no cluster.
