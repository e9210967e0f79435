#!/usr/bin/env python3
"""Says how long onnxruntime takes for one step of a GRU, in seconds: the median of nine, on one thread.

  benches/gru_onnx.py ROWS INPUTS HIDDEN

Needs onnx and onnxruntime (pip install onnx onnxruntime). Asked by `cargo bench --bench forecast`.
"""

import statistics
import sys
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def model(inputs, hidden):
    random = numpy.random.default_rng(1)

    def weights(name, *shape):
        return numpy_helper.from_array(random.uniform(-0.3, 0.3, shape).astype(numpy.float32), name)

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    node = helper.make_node("GRU", ["x", "w", "r", "b", "", "h"], ["", "next"], hidden_size=hidden, linear_before_reset=1)
    graph = helper.make_graph(
        [node],
        "gru",
        [value("x", 1, "rows", inputs), value("h", 1, "rows", hidden)],
        [value("next", 1, "rows", hidden)],
        [weights("w", 1, 3 * hidden, inputs), weights("r", 1, 3 * hidden, hidden), weights("b", 1, 6 * hidden)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8).SerializeToString()


def main():
    rows, inputs, hidden = (int(it) for it in sys.argv[1:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model(inputs, hidden), options, providers=["CPUExecutionProvider"])
    random = numpy.random.default_rng(2)
    fed = {
        "x": random.uniform(-2, 2, (1, rows, inputs)).astype(numpy.float32),
        "h": random.uniform(-1, 1, (1, rows, hidden)).astype(numpy.float32),
    }
    took = []
    for _ in range(10):
        begun = time.perf_counter()
        (after,) = session.run(None, fed)
        took.append(time.perf_counter() - begun)
        assert after.shape == (1, rows, hidden)
    print(statistics.median(took[1:]))


if __name__ == "__main__":
    main()
