#!/usr/bin/env bash
# The comparisons of image-level self-supervision (Cha et al. 2021), measured again on synthetic data.
#
#   examples/reproduce_image_ssl.sh OUT [cpu|gpu] [REPORT.md]
#
# The domain shift of the paper, made in the studio: a network learns from labelled people of few poses in one room (the layout of
# Human3.6M) and is then trained on people filmed outside by a carried camera (the layout of 3DPW), whose labels it does not
# see; it is measured on other such people. Everything is written below OUT; a second run does only what is not up to date.
#
# Environment variables change the size: FRAMES and FILMS (sequences) of the data sets, RECIPE of the trainings, SIDE of the crops,
# EPOCHS_START of the first network, EPOCHS of both stages, SEEDS of each row (separated by blanks), and JOBS side by side.
set -euo pipefail

size=${2:-cpu}
if [[ $# -lt 1 || $# -gt 3 || ($size != cpu && $size != gpu) ]]; then
    echo "usage: $0 OUT [cpu|gpu] [REPORT.md]" >&2
    exit 2
fi
if [[ $size == cpu ]]; then
    frames=8 films=24 recipe=studio side=64 epochs_start=30 epochs=4 seeds="0" jobs=1
else
    frames=32 films=120 recipe=studio side=128 epochs_start=60 epochs=10 seeds="0 1 2" jobs=8
fi
frames=${FRAMES:-$frames} films=${FILMS:-$films} recipe=${RECIPE:-$recipe} side=${SIDE:-$side}
epochs_start=${EPOCHS_START:-$epochs_start} epochs=${EPOCHS:-$epochs} seeds=${SEEDS:-$seeds} jobs=${JOBS:-$jobs}

here=$(realpath "$(dirname "$0")")
[[ ! -f $recipe ]] || recipe=$(realpath "$recipe")
mkdir -p "$1"
out=$(realpath "$1")
report=$(realpath -m "${3:-$out/image_ssl.md}")
cd "$out"
[[ -f posekit.toml ]] || posekit init .
mkdir -p results logs
printf '{"size": "%s", "recipe": "%s", "side": %d, "epochs_start": %d, "epochs": %d, "seeds": "%s"}\n' \
    "$size" "$(basename "$recipe" .yaml)" "$side" "$epochs_start" "$epochs" "$seeds" >results/size.json

# Runs a command in the background, at most $jobs at a time; its output goes to a log.
side_by_side() {
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n || { echo "a training failed, see $out/logs" >&2; exit 1; }; done
    "${@:2}" >"logs/$1.log" 2>&1 &
}
all_done() {
    while (($(jobs -p | wc -l) > 0)); do wait -n || { echo "a training failed, see $out/logs" >&2; exit 1; }; done
}
step() { echo && echo "== $1 ($SECONDS s)"; }

step "Synthetic data"
if [[ ! -f data/h36m.h5 ]]; then
    posekit synthesize h36m --subjects S1,S5,S6,S7 --actions Directions,Discussion,Posing,Waiting --frames "$frames" --fps 2.5 \
        --resolution 400 --correspondences 0
    posekit preprocess h36m --train-stride 1 --test-stride 1 --crop-size 160 --crop-margin 1.4 --jpeg-quality 85
fi
if [[ ! -f data/3dpw.h5 ]]; then
    posekit synthesize 3dpw --train "$films" --validation 0 --test "$(((films + 1) / 2))" --frames 8 --noise-px 0
    posekit preprocess 3dpw --crop-size 160 --crop-margin 1.4 --jpeg-quality 85
fi
if [[ ! -d raw/voc ]]; then posekit synthesize voc --pictures 100; fi
posekit pseudo-label masks --dataset data/h36m.h5 --source truth --output labels/h36m.masks.h5
posekit pseudo-label masks --dataset data/3dpw.h5 --source truth --output labels/3dpw.masks.h5

measured() { # name, model: people that nothing was learned from
    posekit predict --dataset data/3dpw.h5 --model "$2" --split test --output "predictions/$1.h5"
    posekit eval 3dpw --dataset data/3dpw.h5 --predictions "predictions/$1.h5" --headings predictions --baseline \
        --output "results/$1.json"
}

step "The network that everything starts from"
posekit train mesh-estimator --recipe "$recipe" --datasets data/h36m.h5 --split all --input-size "$side" --epochs "$epochs_start" \
    --output runs/start
measured start runs/start

adapted() { # name, seed, then settings
    posekit train image-ssl --recipe "$recipe" --datasets data/h36m.h5,data/3dpw.h5 --shares 0.3,0.7 --init runs/start \
        --backgrounds raw/voc --heads "runs/heads-$2" --epochs-heads "$epochs" --epochs "$epochs" --seed "$2" --monitor-samples 256 \
        --output "runs/$1-$2" "${@:3}"
    measured "$1-$2" "runs/$1-$2"
}

step "Heads, and self-supervision with every loss"
for seed in $seeds; do side_by_side "self-$seed" adapted self "$seed"; done
all_done

step "More labels, fewer losses, single tasks"
for seed in $seeds; do
    side_by_side "weak-$seed" adapted weak "$seed" --supervision weak --keypoints-of 3dpw
    side_by_side "semi-$seed" adapted semi "$seed" --supervision semi --keypoints-of 3dpw --joints-of h36m
    side_by_side "no-real-$seed" adapted no-real "$seed" --no-real
    side_by_side "no-real-no-mask-$seed" adapted no-real-no-mask "$seed" --no-real --no-mask
    side_by_side "jigsaw-$seed" adapted jigsaw "$seed" --no-rotation --no-inpainting
    side_by_side "rotation-$seed" adapted rotation "$seed" --no-jigsaw --no-inpainting
    side_by_side "inpainting-$seed" adapted inpainting "$seed" --no-jigsaw --no-rotation
done
all_done

step "Report"
"${PYTHON:-python3}" "$here/image_ssl_report.py" "$out" "$report"
