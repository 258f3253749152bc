#!/usr/bin/env bash
# The comparisons of Pose ResNet (Sensors 2023), measured again on synthetic data.
#
#   examples/reproduce_pose_resnet.sh OUT [cpu|gpu] [REPORT.md]
#
# Everything is written below OUT; a second run does only what is not up to date. The report ends up in OUT/pose_resnet.md, or
# in REPORT.md with its pictures beside it. Data sets that are in OUT/data already are taken as they are.
#
# Environment variables change the size: SUBJECTS and ACTIONS (separated by commas), FRAMES of each sequence, PICTURES of the
# 2D data set, RECIPE of the trainings, EPOCHS_2D, EPOCHS_DEPTHS, EPOCHS, SEEDS of each row of the ablation and DEPTHS of the
# trunk that are compared (separated by blanks), and JOBS, the number of trainings that run side by side.
set -euo pipefail

size=${2:-cpu}
if [[ $# -lt 1 || $# -gt 3 || ($size != cpu && $size != gpu) ]]; then
    echo "usage: $0 OUT [cpu|gpu] [REPORT.md]" >&2
    exit 2
fi
if [[ $size == cpu ]]; then
    frames=8 pictures=600 recipe=studio epochs_2d=12 epochs_depths=6 epochs=6 seeds="0" depths="resnet10 resnet18" jobs=1
else
    frames=16 pictures=3600 recipe=studio-gpu epochs_2d=60 epochs_depths=12 epochs=20 seeds="0 1 2"
    depths="resnet18 resnet34 resnet50 resnet101" jobs=12
fi
subjects=${SUBJECTS:-S1,S5,S6,S7,S8,S9,S11}
actions=${ACTIONS:-Directions,Discussion,Eating,Greeting,Phoning,Posing,Purchases,Smoking,Photo,Waiting,Walking,WalkDog}
frames=${FRAMES:-$frames} pictures=${PICTURES:-$pictures} recipe=${RECIPE:-$recipe}
epochs_2d=${EPOCHS_2D:-$epochs_2d} epochs_depths=${EPOCHS_DEPTHS:-$epochs_depths} epochs=${EPOCHS:-$epochs} seeds=${SEEDS:-$seeds} depths=${DEPTHS:-$depths}
jobs=${JOBS:-$jobs}

here=$(realpath "$(dirname "$0")")
[[ ! -f $recipe ]] || recipe=$(realpath "$recipe")
mkdir -p "$1"
out=$(realpath "$1")
report=$(realpath -m "${3:-$out/pose_resnet.md}")
cd "$out"
[[ -f posekit.toml ]] || posekit init .
mkdir -p results logs

printf '{"size": "%s", "recipe": "%s", "epochs_2d": %d, "epochs_depths": %d, "epochs": %d, "seeds": "%s", "jobs": %d}\n' \
    "$size" "$(basename "$recipe" .yaml)" "$epochs_2d" "$epochs_depths" "$epochs" "$seeds" "$jobs" >results/size.json

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
    posekit synthesize h36m --subjects "$subjects" --actions "$actions" --frames "$frames" --fps 2.5 --resolution 400 \
        --correspondences 0
    posekit preprocess h36m --train-stride 1 --test-stride 1 --crop-size 144 --crop-margin 1.4 --jpeg-quality 80
fi
if [[ ! -f data/mpii.h5 ]]; then
    posekit synthesize mpii --train "$pictures" --val "$(((pictures + 5) / 6))"
    posekit preprocess mpii --crop-size 144 --crop-margin 1.4 --jpeg-quality 80
fi
if [[ ! -f data/voc.occluders.h5 ]]; then
    posekit synthesize voc --pictures 200
    posekit preprocess voc
fi

# The four networks of the ablation, and what the rows of the paper's Table 4 call them.
form() {
    case $1 in
        plain) echo "--no-cbam --pool none" ;;
        wasp) echo "--no-cbam --pool wasp" ;;
        cbam) echo "--cbam --pool none" ;;
        full) echo "--cbam --pool wasp" ;;
    esac
}
flat() { # name, epochs, then settings
    posekit train pose-resnet-2d --datasets data/mpii.h5 --recipe "$recipe" --epochs "$2" --output "runs/2d-$1" "${@:3}"
    posekit pseudo-label keypoints --dataset data/mpii.h5 --model "runs/2d-$1" --output "labels/mpii.$1.keypoints.h5"
    posekit eval mpii --dataset data/mpii.h5 --keypoints "labels/mpii.$1.keypoints.h5" --split test \
        --output "results/2d-$1.json"
}

step "2D networks"
for name in full wasp cbam plain; do
    # shellcheck disable=SC2046
    side_by_side "2d-$name" flat "$name" "$epochs_2d" $(form "$name")
done
for depth in $depths; do side_by_side "2d-$depth" flat "$depth" "$epochs_depths" --backbone "$depth"; done
all_done

step "Labels"
label() { # name, then settings of triangulate
    posekit triangulate --views pairs --output "labels/$1.view3d.h5" "${@:2}"
    posekit eval h36m --joints3d "labels/$1.view3d.h5" --headings joints3d --protocol pose-resnet-train \
        --output "results/labels-$1.json"
}
posekit pseudo-label keypoints --model runs/2d-full --mirror --confidence mass --json >results/keypoints.json
side_by_side labels-self label self --cameras intrinsics --keypoints labels/h36m.keypoints.h5
side_by_side labels-self-2dgt label self-2dgt --cameras intrinsics
side_by_side labels-extrinsics-given label extrinsics-given --cameras known --keypoints labels/h36m.keypoints.h5
# Two pixels of noise in frames of 1000 px.
side_by_side labels-noisy label noisy --cameras intrinsics --noise-px 0.8
all_done

deep() { # name, seed, network whose weights are taken over or none, then settings
    local name=$1-$2 transfer
    if [[ $3 == none ]]; then transfer="--no-transfer"; else transfer="--init runs/2d-$3"; fi
    posekit train pose-resnet --recipe "$recipe" --epochs "$epochs" --seed "$2" --output "runs/3d-$name" $transfer "${@:4}"
    posekit predict --model "runs/3d-$name" --split test --perspective camera --output "predictions/$name.h5"
    posekit predict --model "runs/3d-$name" --split test --perspective camera --occlude 0.7 --output "predictions/$name.occluded.h5"
    posekit eval h36m --predictions "predictions/$name.h5" --headings predictions --protocol pose-resnet --baseline \
        --histogram --output "results/3d-$name.json"
    posekit eval h36m --predictions "predictions/$name.occluded.h5" --headings predictions --protocol pose-resnet \
        --output "results/3d-$name.occluded.json"
    if [[ $1 == full || $1 == supervised ]]; then
        posekit predict --model "runs/3d-$name" --split test --root-depth gt --output "predictions/$name.gt.h5"
        posekit eval h36m --predictions "predictions/$name.gt.h5" --headings predictions --protocol pose-resnet \
            --output "results/3d-$name.gt.json"
    fi
}
self=(--labels labels/self.view3d.h5)
clear=(--occlusion-p 0)

step "Ablation"
first=${seeds%% *}
# shellcheck disable=SC2046
{
    side_by_side "3d-self-2dgt-$first" deep self-2dgt "$first" full --supervision self-2dgt --labels labels/self-2dgt.view3d.h5 $(form full)
    side_by_side "3d-extrinsics-given-$first" deep extrinsics-given "$first" full --supervision extrinsics-given \
        --labels labels/extrinsics-given.view3d.h5 $(form full)
}
for seed in $seeds; do
    # shellcheck disable=SC2046
    {
        side_by_side "3d-full-$seed" deep full "$seed" full "${self[@]}" $(form full)
        side_by_side "3d-supervised-$seed" deep supervised "$seed" full --supervision full $(form full)
        side_by_side "3d-nothing-$seed" deep nothing "$seed" none "${self[@]}" "${clear[@]}" $(form plain)
        side_by_side "3d-transfer-$seed" deep transfer "$seed" plain "${self[@]}" "${clear[@]}" $(form plain)
        side_by_side "3d-transfer-occlusion-$seed" deep transfer-occlusion "$seed" plain "${self[@]}" $(form plain)
        side_by_side "3d-transfer-wasp-$seed" deep transfer-wasp "$seed" wasp "${self[@]}" "${clear[@]}" $(form wasp)
        side_by_side "3d-transfer-cbam-$seed" deep transfer-cbam "$seed" cbam "${self[@]}" "${clear[@]}" $(form cbam)
        side_by_side "3d-no-cbam-$seed" deep no-cbam "$seed" wasp "${self[@]}" $(form wasp)
        side_by_side "3d-no-wasp-$seed" deep no-wasp "$seed" cbam "${self[@]}" $(form cbam)
    }
done
all_done

step "Pictures"
posekit render --fits "predictions/full-$first.h5" --kind heatmaps --model "runs/3d-full-$first" --images --output renders/heatmaps

step "Report"
"${PYTHON:-python3}" "$here/pose_resnet_report.py" "$out" "$report"
