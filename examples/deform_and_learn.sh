#!/usr/bin/env bash
# Deform-and-learn on Human3.6M and COCO with DensePose, as Yoshiyasu and Gamez 2019 ran it.
#
#   examples/deform_and_learn.sh H36M COCO UV_DATA BODY OUT
#
# H36M     folder of the Human3.6M release (S1/, ..., metadata.xml); `posekit preprocess h36m --check` lists what it needs
# COCO     folder of COCO 2014 with annotations/densepose_coco_2014_*.json and the pictures of train2014 and val2014
# UV_DATA  DensePose's UV_Processed.mat, which says where its charts lie on the body
# BODY     SMPL model file (.pkl or .npz); the charts of DensePose are those of SMPL
# OUT      folder to write into; a second run does only what is not up to date
#
# None of these files comes with posekit; see docs/datasets.md for where they are from. The paper needed two to three days on
# one GPU of 24 GB. To train on several GPUs, put `torchrun --nproc-per-node N --no-python` before `posekit` in the lines that
# register, train and predict.
set -euo pipefail

if [[ $# -ne 5 ]]; then
    echo "usage: $0 H36M COCO UV_DATA BODY OUT" >&2
    exit 2
fi
for needed in "$1" "$2" "$3" "$4"; do
    if [[ ! -e $needed ]]; then
        echo "$0: $needed is not there" >&2
        exit 2
    fi
done
h36m=$(realpath "$1")
coco=$(realpath "$2")
uv_data=$(realpath "$3")
body=(--body "$(realpath "$4")")
mkdir -p "$5"
cd "$5"
[[ -f posekit.toml ]] || posekit init .

echo "== Data"
posekit preprocess h36m --raw "$h36m" --protocol p1 --output data/h36m.h5
posekit preprocess coco --raw "$coco" --uv-data "$uv_data" "${body[@]}" --output data/coco.h5

echo
echo "== Dense correspondences of Human3.6M"
# The paper projects bodies that MoSh fitted to the markers of motion capture. Markers are not part of what is read here; in
# their place bodies are fitted to joints triangulated from the 2D key points of all four calibrated views. As in the paper,
# these labels know more than one view, although only their 2D positions are used from here on. They do not take the default
# name, under which a second run would register to them.
posekit triangulate --dataset data/h36m.h5 --cameras known
posekit register --dataset data/h36m.h5 --joints3d labels/h36m.joints3d.h5 --camera perspective --views joint --split train \
    "${body[@]}" --output fits/h36m.views.h5
posekit pseudo-label surface --dataset data/h36m.h5 --fits fits/h36m.views.h5 "${body[@]}" --output labels/h36m.surface.h5

echo
echo "== Lifter"
posekit train lifter --recipe paper --datasets data/h36m.h5,data/coco.h5 "${body[@]}" --output runs/lifter
posekit eval lifter --dataset data/h36m.h5 --lifter runs/lifter

echo
echo "== Five rounds"
posekit train deform-and-learn --recipe paper --datasets data/h36m.h5,data/coco.h5 --last-datasets data/h36m.h5 \
    --dense labels/h36m.surface.h5,labels/coco.dense.h5 --lifter runs/lifter "${body[@]}" --output runs/deform-and-learn

echo
echo "== Test subjects"
posekit predict --dataset data/h36m.h5 --model runs/deform-and-learn --split test "${body[@]}" --output predictions/h36m.h5
posekit eval h36m --dataset data/h36m.h5 --predictions predictions/h36m.h5 --headings predictions --baseline \
    --protocol deform-and-learn "${body[@]}" --output results/h36m.json

echo
echo "== Refinement by the annotations of COCO's test pictures"
# The training subjects alone have labels of Human3.6M here. With a detector's correspondences of other pictures, write them
# as docs/artifacts.md says and name the file with --dense.
posekit predict --dataset data/coco.h5 --model runs/deform-and-learn --split test --refine --recipe paper --lifter runs/lifter \
    --dense labels/coco.dense.h5 "${body[@]}" --output predictions/coco.refined.h5

echo
echo "== Pictures"
posekit render --dataset data/h36m.h5 --fits predictions/h36m.h5 "${body[@]}" --kind overlay --frames 200 \
    --output renders/h36m.overlay
posekit render --dataset data/h36m.h5 --fits predictions/h36m.h5 "${body[@]}" --kind side --frames 200 \
    --output renders/h36m.side
