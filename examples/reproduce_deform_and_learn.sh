#!/usr/bin/env bash
# The comparisons of Yoshiyasu and Gamez 2019, measured again on synthetic data.
#
#   examples/reproduce_deform_and_learn.sh OUT [cpu|gpu] [REPORT.md]
#
# cpu (default) takes about half an hour on two cores, gpu more data, a larger network and an hour on one GPU. Everything is
# written below OUT; a second run does only what is not up to date. The report ends up in OUT/deform_and_learn.md, or in
# REPORT.md with its curves beside it.
#
# Environment variables change the size: FRAMES and FPS of each sequence, SUBJECTS and ACTIONS (separated by commas), PICTURES
# for training (a sixth as many for testing), RECIPE and LIFTER_RECIPE of the trainings (a name or a file), ROUNDS, EPOCHS of
# each round, LIFTER_EPOCHS, and STRIDE of the instants that the registrations with terms left out are made for.
set -euo pipefail

size=${2:-cpu}
if [[ $# -lt 1 || $# -gt 3 || ($size != cpu && $size != gpu) ]]; then
    echo "usage: $0 OUT [cpu|gpu] [REPORT.md]" >&2
    exit 2
fi

if [[ $size == cpu ]]; then
    frames=8 fps=2 pictures=600 recipe=studio rounds=5 epochs=3 lifter_epochs=65 stride=4
    lifter_size=()
else
    frames=100 fps=10 pictures=9000 recipe=studio-gpu rounds=5 epochs=10 lifter_epochs=30 stride=25
    lifter_size=(--width 512 --batch 256)
fi
subjects=${SUBJECTS:-S1,S5,S6,S7,S8,S9,S11}
actions=${ACTIONS:-Directions,Discussion,Eating,Greeting,Phoning,Posing,Purchases,Sitting,SittingDown,Smoking,Photo,Waiting,Walking,WalkDog,WalkTogether}
frames=${FRAMES:-$frames} fps=${FPS:-$fps} pictures=${PICTURES:-$pictures} recipe=${RECIPE:-$recipe}
rounds=${ROUNDS:-$rounds} epochs=${EPOCHS:-$epochs} lifter_epochs=${LIFTER_EPOCHS:-$lifter_epochs} stride=${STRIDE:-$stride}
long=$((rounds * epochs))

here=$(realpath "$(dirname "$0")")
lifter_recipe=${LIFTER_RECIPE:-demo}
[[ ! -f $recipe ]] || recipe=$(realpath "$recipe")
[[ ! -f $lifter_recipe ]] || lifter_recipe=$(realpath "$lifter_recipe")
mkdir -p "$1"
out=$(realpath "$1")
report=$(realpath -m "${3:-$out/deform_and_learn.md}")
cd "$out"
[[ -f posekit.toml ]] || posekit init .
mkdir -p results

# The seconds of each step; those of interrupted runs count, too.
doing="" since=0
note_time() { [[ -z $doing ]] || printf '%s\t%s\n' "$doing" "$((SECONDS - since))" >>seconds.tsv; }
step() {
    note_time
    doing=$1 since=$SECONDS
    echo && echo "== $1"
}
trap note_time EXIT

printf '{"size": "%s", "frames": %d, "fps": %s, "recipe": "%s", "rounds": %d, "epochs": %d, "lifter_epochs": %d, "stride": %d}\n' \
    "$size" "$frames" "$fps" "$(basename "$recipe" .yaml)" "$rounds" "$epochs" "$lifter_epochs" "$stride" >results/size.json

step "Synthetic data"
posekit synthesize h36m --subjects "$subjects" --actions "$actions" --frames "$frames" --fps "$fps" --resolution 300
posekit synthesize coco --train "$pictures" --val "$(((pictures + 5) / 6))"
posekit preprocess h36m --train-stride 1 --test-stride 1 --crop-size 128 --json >results/h36m.preprocess.json
posekit preprocess coco --crop-size 128 --json >results/coco.preprocess.json

both=(--datasets data/h36m.h5,data/coco.h5 --dense raw/h36m/dense.h5,labels/coco.dense.h5)
h36m=(--datasets data/h36m.h5 --dense raw/h36m/dense.h5)
coco=(--datasets data/coco.h5 --dense labels/coco.dense.h5)

step "Lifters"
ungeometric=(--w-ratio 0 --w-symmetry 0 --orientation none --w-twist 0)
published=(--no-learn-tilt --distance 0 --random-angles 0 --w-adversarial 0.1 --w-ratio 1 --w-symmetry 1 --w-orientation 1
    --w-twist 0 --w-consistency 0 --blur 0 --sway 0)
lift() {
    posekit train lifter --datasets data/h36m.h5 --recipe "$lifter_recipe" --epochs "$lifter_epochs" --output "runs/$1" \
        "${lifter_size[@]}" "${@:2}"
}
lift lifter
lift lifter-kudo "${ungeometric[@]}"
lift lifter-paper "${published[@]}"
lift lifter-paper-kudo "${published[@]}" "${ungeometric[@]}"
for lifter in lifter lifter-kudo lifter-paper lifter-paper-kudo; do
    posekit eval lifter --lifter "runs/$lifter" --output "results/$lifter.json"
done

learn() { posekit train deform-and-learn --recipe "$recipe" "$@"; }

step "Rounds"
learn "${both[@]}" --last-datasets data/h36m.h5 --rounds "$rounds" --epochs "$epochs" --output runs/rounds

# First rounds begin with the same registration: what was fitted once is found there and not fitted again.
share_fits() {
    mkdir -p "runs/$1/round-1"
    for name in "${@:2}"; do
        [[ -f runs/$1/round-1/$name.fits.h5 || ! -f runs/rounds/round-1/$name.fits.h5 ]] ||
            cp "runs/rounds/round-1/$name.fits.h5" "runs/$1/round-1/$name.fits.h5"
    done
}
share_fits one-round h36m coco
share_fits h36m h36m
share_fits coco coco

step "One round, trained as long"
learn "${both[@]}" --rounds 1 --epochs "$long" --output runs/one-round

step "Single steps"
learn "${both[@]}" --strategy single-step --rounds "$rounds" --epochs "$epochs" --output runs/single-step
learn "${both[@]}" --strategy single-step-noadv --rounds "$rounds" --epochs "$epochs" --output runs/single-step-noadv

step "Data sets, after one round"
learn "${h36m[@]}" --rounds 1 --epochs "$epochs" --output runs/h36m
learn "${coco[@]}" --rounds 1 --epochs "$epochs" --output runs/coco
posekit predict --dataset data/h36m.h5 --model runs/coco --split test --output runs/coco/round-1/h36m.h5
posekit eval h36m --predictions runs/coco/round-1/h36m.h5 --headings predictions --protocol deform-and-learn \
    --output runs/coco/round-1/h36m.json

step "Refinement"
refine() {
    posekit predict --dataset "data/$1.h5" --dense "$2" --model runs/rounds --split test --refine --lifter runs/lifter \
        --output "predictions/$1.refined.h5" --json >"results/$1.refined.predict.json"
}
refine h36m raw/h36m/dense.h5
refine coco labels/coco.dense.h5
judge() {
    posekit eval h36m --predictions "$1" --headings predictions --truth raw/h36m/truth.h5 --protocol deform-and-learn \
        --output "$2"
}
judge "runs/rounds/round-$rounds/h36m.h5" results/h36m.predicted.json
judge predictions/h36m.refined.h5 results/h36m.refined.json

step "Registrations with terms left out"
measured=()
fit() {
    # No fit is left out for its residual, so that all are measured on the same images.
    posekit register --recipe paper "${h36m_fit[@]}" --stride "$stride" --max-residual-px 1000 "${@:2}" \
        --output "fits/ablation-$1.h5" --json >"results/ablation-$1.register.json"
    rm -f "results/compare-ablation-$1.json"
    if grep -Eq '"ok": 0,?$' "results/ablation-$1.register.json"; then
        echo "no fit of fits/ablation-$1.h5 is usable: there is nothing to measure"
        rm -f "results/ablation-$1.json"
        return
    fi
    posekit eval h36m --fits "fits/ablation-$1.h5" --headings fits --protocol deform-and-learn-train \
        --output "results/ablation-$1.json"
    measured+=("$1")
}
# The first registration of the rounds; while the body is stiff, the weights of that time hold.
h36m_fit=(--dataset data/h36m.h5 --dense raw/h36m/dense.h5 --lifter runs/lifter --depths lifter --split train
    --stiff constant --stiff-pose 0.3)
fit all
fit no-dense --w-dense 0
fit no-scale --w-scale 0 --stiff-scale 0
fit no-pose --w-pose 0 --stiff-pose 0
fit no-depth --w-depth 0
fit anneal --stiff anneal --stiff-pose 1
fit 600 --iters 600

step "Paired comparisons"
compare() { posekit eval compare "$2" "$3" --output "results/compare-$1.json" "${@:4}"; }
final=runs/rounds/round-$rounds/h36m.json
compare mean-pose "$final" "$final" --heading mean-pose --second-heading predictions
for other in single-step single-step-noadv one-round; do
    compare "$other" "runs/$other/round-1/h36m.json" "$final" --heading predictions
done
compare first-round runs/rounds/round-1/h36m.json "$final" --heading predictions
compare refined results/h36m.predicted.json results/h36m.refined.json --heading predictions
for one in h36m coco; do
    compare "data-$one" "runs/$one/round-1/h36m.json" runs/rounds/round-1/h36m.json --heading predictions
done
for left in "${measured[@]}"; do
    compare "ablation-$left" results/ablation-all.json "results/ablation-$left.json" --heading fits
done

step "Report"
"${PYTHON:-python}" "$here/deform_and_learn_report.py" "$out" "$report"
