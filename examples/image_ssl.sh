#!/usr/bin/env bash
# Image-level self-supervision on real data sets, as Cha et al. 2021 ran it.
#
#   examples/image_ssl.sh H36M MPII COCO LSP THREEDPW IMAGES BACKGROUNDS CHECKPOINT BODY OUT
#
# H36M        folder of the Human3.6M release; `posekit preprocess h36m --check` lists what it needs
# MPII        folder of MPII Human Pose
# COCO        folder of COCO 2014 with its DensePose annotations and pictures
# LSP         folder of LSP with the segmentations of UPi-S1h
# THREEDPW    folder of 3DPW (sequenceFiles/, imageFiles/)
# IMAGES      folder of own images of people (the paper: 3,000 from YouTube)
# BACKGROUNDS folder of images without people (the authors: indoor scenes)
# CHECKPOINT  weights of HMR or SPIN in PyTorch, with which the paper's network begins
# BODY        SMPL model file (.pkl or .npz), which these weights are of
# OUT         folder to write into; a second run does only what is not up to date
#
# None of these files comes with posekit; see docs/datasets.md for where they are from. MPI-INF-3DHP, a tenth of the paper's batches,
# is not read yet: its share goes to the sets of single pictures. To train on several GPUs, put
# `torchrun --nproc-per-node N --no-python` before `posekit` in the lines that label, train and predict.
set -euo pipefail

if [[ $# -ne 10 ]]; then
    echo "usage: $0 H36M MPII COCO LSP THREEDPW IMAGES BACKGROUNDS CHECKPOINT BODY OUT" >&2
    exit 2
fi
for needed in "${@:1:9}"; do
    if [[ ! -e $needed ]]; then
        echo "$0: $needed is not there" >&2
        exit 2
    fi
done
h36m=$(realpath "$1") mpii=$(realpath "$2") coco=$(realpath "$3") lsp=$(realpath "$4") threedpw=$(realpath "$5")
images=$(realpath "$6") backgrounds=$(realpath "$7") checkpoint=$(realpath "$8")
body=(--body "$(realpath "$9")")
mkdir -p "${10}"
cd "${10}"
[[ -f posekit.toml ]] || posekit init .

echo "== Data"
# Every 25th frame of all cameras: the paper's 62,000 images. The margin leaves room for the augmentation's zoom.
posekit preprocess h36m --raw "$h36m" --train-stride 25 --test-stride 5 --crop-margin 1.6 --crop-size 320 --output data/h36m.h5
posekit preprocess mpii --raw "$mpii" --crop-margin 1.6 --crop-size 320 --output data/mpii.h5
posekit preprocess coco --raw "$coco" "${body[@]}" --crop-margin 1.6 --crop-size 320 --output data/coco.h5
posekit preprocess lsp --raw "$lsp" --crop-margin 1.6 --crop-size 320 --output data/lsp.h5
posekit preprocess images --raw "$images" --crop-margin 1.6 --crop-size 320 --output data/own.h5
posekit preprocess 3dpw --raw "$threedpw" "${body[@]}" --output data/3dpw.h5
for name in h36m mpii coco lsp own; do
    posekit pseudo-label masks --dataset "data/$name.h5" --output "labels/$name.masks.h5"
done

echo
echo "== The weights that the paper begins with"
posekit train mesh-estimator --recipe paper --datasets data/h36m.h5 --checkpoint "$checkpoint" --epochs 0 "${body[@]}" \
    --output runs/mesh-estimator

echo
echo "== Self-, weakly and semi-supervised"
sets=data/h36m.h5,data/mpii.h5,data/coco.h5,data/lsp.h5,data/own.h5
for supervision in self weak semi; do
    posekit train image-ssl --recipe paper --datasets "$sets" --shares 0.3,0.21,0.43,0.02,0.04 --init runs/mesh-estimator \
        --backgrounds "$backgrounds" --heads runs/heads --supervision "$supervision" "${body[@]}" --output "runs/$supervision"
    posekit predict --dataset data/h36m.h5 --model "runs/$supervision" --split test "${body[@]}" \
        --output "predictions/$supervision.h36m.h5"
    posekit eval h36m --dataset data/h36m.h5 --predictions "predictions/$supervision.h36m.h5" --headings predictions "${body[@]}" \
        --output "results/$supervision.h36m.json"
    posekit predict --dataset data/3dpw.h5 --model "runs/$supervision" --split test "${body[@]}" \
        --output "predictions/$supervision.3dpw.h5"
    posekit eval 3dpw --dataset data/3dpw.h5 --predictions "predictions/$supervision.3dpw.h5" --headings predictions "${body[@]}" \
        --output "results/$supervision.3dpw.json"
    posekit predict --dataset data/lsp.h5 --model "runs/$supervision" --split test "${body[@]}" \
        --output "predictions/$supervision.lsp.h5"
    posekit eval lsp --dataset data/lsp.h5 --predictions "predictions/$supervision.lsp.h5" "${body[@]}" \
        --output "results/$supervision.lsp.json"
done
