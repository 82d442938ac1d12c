#!/usr/bin/env bash
# How long a guest waits for its memory when it is booted by postcopy on a real QEMU: from another
# QEMU, and from an image by `retpath serve`. Same guest, same destination, same bandwidth, by turns.
#
#   engine/cli/benches/qemu.sh              RETPATH_QEMU=/path picks another QEMU
#
# RETPATH_BENCH_MIB (256) and RETPATH_BENCH_RUNS (5) change the machine's size and the number of runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo test -q --release -p retpath --test qemu_bench -- --ignored --nocapture
