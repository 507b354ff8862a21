#!/bin/sh
# Seed a city once, then let people live in it: simulate.sh BASE_URL LOG_INS_FILE
# A seed tells its passwords once, so the file outlives the container and is the owner's alone.
set -eu
base_url=$1
log_ins=$2
umask 077
if [ ! -s "$log_ins" ]; then
    darkstore seed --json >"$log_ins.new"
    mv "$log_ins.new" "$log_ins"
fi
exec python -m simulator --base-url "$base_url" --log-ins "$log_ins" --endless --speed 1 --events
