#!/bin/sh
# Train the next network from the one that ships: told other noise levels, brackets, dead samples.
#
#   sh runs/second_campaign.sh TRAIN_PHOTOS VAL_PHOTOS RUN
#
# The photos of the project are listed in weights/photos.tsv. The first leg has a constant rate. It
# may be interrupted and started again; the same command resumes it. When it has gained less than
# 0.05 dB over 200,000 patches at every gain, COOLDOWN lets the rate fall to zero:
#
#   COOLDOWN=150000 PATCHES=1650000 sh runs/second_campaign.sh TRAIN_PHOTOS VAL_PHOTOS RUN
set -eu
KPN=${KPN:-kpn}
$KPN train "$1" --val "$2" -o "$3" --init shipped --seed 11 \
    --patches "${PATCHES:-1500000}" --schedule constant --cooldown "${COOLDOWN:-0}" \
    --lr 0.0004 --ema 0.9995 --anneal 0 --validate-every 25000
