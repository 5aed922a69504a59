#!/bin/sh
# Train the network that ships from that of the ninth run: runs ten to fifteen of weights/README.md.
#
#   git show bf0941b:weights/kpn.safetensors > ninth.safetensors
#   sh runs/second_campaign.sh TRAIN_PHOTOS VAL_PHOTOS RUNS ninth.safetensors
#
# The photos of the project are listed in weights/photos.tsv. RUNS is a folder for the runs. A run that
# was interrupted is resumed when the script is started again. All but the tenth run want a GPU. KPN is
# the program, for example KPN="python -m kpn_cli"; by default it is kpn. The last line printed is the
# file of the new network.
set -eu
KPN=${KPN:-kpn} photos=$1 val=$2 runs=$3 ninth=$4
mkdir -p "$runs"

leg() { # name, weights to start from, options
    name=$1 init=$2
    shift 2
    if [ ! -e "$runs/$name.done" ]; then
        $KPN train "$photos" -o "$runs/$name" --init "$init" --anneal 0 "$@"
        touch "$runs/$name.done"
    fi
}

leg tenth "$ninth" --val "$val" --seed 11 --patches 170000 \
    --schedule constant --lr 0.0004 --ema 0.9995 --validate-every 25000
leg eleventh "$runs/tenth/last.safetensors" --val "$val" --seed 21 --patches 385728 --batch 64 \
    --schedule constant --cooldown 126080 --lr 0.0008 --ema 0.9995 --validate-every 42026
leg twelfth "$runs/eleventh/best.safetensors" --seed 22 --patches 128000 --batch 64 \
    --lr 0.0004 --ema 0.999
leg thirteenth "$runs/twelfth/last.safetensors" --extra-blocks 0,0,1,1 --seed 30 --patches 512000 \
    --batch 128 --schedule constant --lr 0.001 --ema 0.9995
leg fourteenth "$runs/thirteenth/last.safetensors" --seed 31 --patches 740096 --batch 128 \
    --lr 0.0006 --ema 0.999
leg fifteenth "$runs/fourteenth/last.safetensors" --seed 32 --patches 2111488 --batch 256 \
    --lr 0.0006 --ema 0.999
echo "$runs/fifteenth/last.safetensors"
