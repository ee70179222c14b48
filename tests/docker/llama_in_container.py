"""llama.cpp's server from the wheel, started like its own program. It runs in a container."""

import argparse
import signal
import sys

import xllamacpp


def main() -> None:
    """Serve until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--ctx-size", type=int, default=2048)
    parser.add_argument("--n-gpu-layers", type=int)
    parser.add_argument("--metrics", action="store_true")
    given = parser.parse_args()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = given.model
    parameters.model_alias = {"tiny"}
    parameters.hostnames, parameters.port = [given.host], given.port
    parameters.n_parallel, parameters.n_ctx = given.parallel, given.ctx_size
    parameters.n_threads_http = given.parallel + 4
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.endpoint_metrics = given.metrics
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    sys.stderr.write(f"main: server is listening on {server.listening_address}\n")
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
