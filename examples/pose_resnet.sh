#!/usr/bin/env bash
# Pose ResNet on MPII and Human3.6M, as the paper ran it (Sensors 2023).
#
#   examples/pose_resnet.sh H36M MPII VOC OUT
#
# H36M  folder of the Human3.6M release (S1/, ..., metadata.xml); `posekit preprocess h36m --check` lists what it needs
# MPII  folder of MPII Human Pose: mpii_human_pose_v1_u12_1.mat and images/
# VOC   folder of PASCAL VOC 2012 (VOCdevkit or VOC2012), whose objects are pasted over people
# OUT   folder to write into; a second run does only what is not up to date
#
# None of these files comes with posekit; see docs/datasets.md for where they are from. The paper used one GPU of 8 GB. To train
# on several GPUs, put `torchrun --nproc-per-node N --no-python` before `posekit` in the lines that train and predict.
set -euo pipefail

if [[ $# -ne 4 ]]; then
    echo "usage: $0 H36M MPII VOC OUT" >&2
    exit 2
fi
for needed in "$1" "$2" "$3"; do
    if [[ ! -e $needed ]]; then
        echo "$0: $needed is not there" >&2
        exit 2
    fi
done
h36m=$(realpath "$1")
mpii=$(realpath "$2")
voc=$(realpath "$3")
mkdir -p "$4"
cd "$4"
[[ -f posekit.toml ]] || posekit init .

echo "== Data"
# Every 5th frame of the training subjects and every 64th of the test subjects, of all cameras (section 4.1); crops with room
# for the augmentation's zoom.
posekit preprocess h36m --raw "$h36m" --train-stride 5 --test-stride 64 --crop-margin 1.6 --crop-size 320 --output data/h36m.h5
posekit preprocess mpii --raw "$mpii" --crop-margin 1.6 --crop-size 320 --output data/mpii.h5
posekit preprocess voc --raw "$voc" --output data/voc.occluders.h5

echo
echo "== 2D branch, on MPII"
posekit train pose-resnet-2d --recipe paper --datasets data/mpii.h5 --output runs/pose-resnet-2d
posekit pseudo-label keypoints --dataset data/mpii.h5 --model runs/pose-resnet-2d --output labels/mpii.keypoints.h5
posekit eval mpii --dataset data/mpii.h5 --keypoints labels/mpii.keypoints.h5 --output results/mpii.json

echo
echo "== Labels of two views, from intrinsics alone"
posekit pseudo-label keypoints --dataset data/h36m.h5 --model runs/pose-resnet-2d --output labels/h36m.keypoints.h5
posekit triangulate --dataset data/h36m.h5 --views pairs --cameras intrinsics --keypoints labels/h36m.keypoints.h5 \
    --output labels/h36m.view3d.h5
posekit eval h36m --dataset data/h36m.h5 --joints3d labels/h36m.view3d.h5 --headings joints3d --protocol pose-resnet-train \
    --output results/labels.json

echo
echo "== 3D branch: self-supervised, and fully supervised for comparison"
posekit train pose-resnet --recipe paper --dataset data/h36m.h5 --labels labels/h36m.view3d.h5 --init runs/pose-resnet-2d \
    --occluders data/voc.occluders.h5 --output runs/pose-resnet
posekit train pose-resnet --recipe paper --dataset data/h36m.h5 --supervision full --init runs/pose-resnet-2d \
    --occluders data/voc.occluders.h5 --output runs/pose-resnet-full

echo
echo "== Test subjects"
for name in pose-resnet pose-resnet-full; do
    # The paper does not say how predictions become metres. With the true depth of the root as EpipolarPose does, and without.
    for depth in none gt; do
        posekit predict --dataset data/h36m.h5 --model "runs/$name" --split test --root-depth "$depth" \
            --output "predictions/$name.$depth.h5"
        posekit eval h36m --dataset data/h36m.h5 --predictions "predictions/$name.$depth.h5" --headings predictions \
            --protocol pose-resnet --baseline --histogram --output "results/$name.$depth.json"
    done
done
posekit render --dataset data/h36m.h5 --fits predictions/pose-resnet.none.h5 --kind heatmaps --model runs/pose-resnet --images \
    --output renders/heatmaps
