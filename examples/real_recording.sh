#!/usr/bin/env bash
# From a recording of several cameras to a moving 3D body.
#
#   examples/real_recording.sh RECORDING OUT
#
# RECORDING holds videos/, openpose/ (one folder of JSON files for each camera) and a calibration; see
# `posekit preprocess multiview --help`. Everything is written below OUT; a second run does only what is not up to date.
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: $0 RECORDING OUT" >&2
    exit 2
fi
recording=$(realpath "$1")
out=$2

mkdir -p "$out"
out=$(realpath "$out")
cd "$out"
[[ -f posekit.toml ]] || posekit init .

dataset=data/recording.h5
known=labels/recording.joints3d.h5
intrinsics=labels/recording.intrinsics.joints3d.h5
fits=fits/recording.h5

posekit preprocess multiview --raw "$recording" --output "$dataset"

echo
echo "== 3D joints, poses of the cameras known"
posekit triangulate --dataset "$dataset" --cameras known --output "$known"

echo
echo "== 3D joints, intrinsics alone"
posekit triangulate --dataset "$dataset" --cameras intrinsics --output "$intrinsics"

echo
echo "== Body"
posekit register --dataset "$dataset" --joints3d "$known" --output "$fits"
posekit render --dataset "$dataset" --joints3d "$known" --fits "$fits" --kind overlay --output renders/overlay
posekit render --dataset "$dataset" --joints3d "$known" --fits "$fits" --kind side --output renders/side
posekit export --dataset "$dataset" --joints3d "$known" --fits "$fits" --formats trc,glb --output exports
