"""
llama.cpp's server on the loopback, from the package xllamacpp; for the Python of build/engines/llamacpp, which has only that.

    build/engines/llamacpp/bin/python benchmarks/llamacpp_server.py --model MODEL.gguf --port 8080 --parallel 4 --threads 2

The options are called as those of `llama-server`, which can be put in its place. It stops when its input ends.
"""

import argparse
import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=4, help="slots, which share the context")
    parser.add_argument("--ctx-size", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chat-template-file", type=Path, help="in place of the model's own")
    arguments = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.hostnames, params.port = ["127.0.0.1"], arguments.port
    params.n_parallel, params.n_ctx = arguments.parallel, arguments.ctx_size
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    if arguments.chat_template_file:
        params.chat_template = arguments.chat_template_file.read_text(encoding="utf-8")
    server = xllamacpp.Server(params)  # it serves from threads of its own
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
