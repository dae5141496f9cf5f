# A job that tells of itself: job.sh FOLDER FROM TO FAILS BYTES
# It lives for FROM to TO tenths of a second, FAILS of a hundred fail, and it prints BYTES.
folder=$1 from=$2 to=$3 fails=$4 bytes=$5
me="$SISYPHUS_RUN_ID $SISYPHUS_CLAIM $$"

# One write of one line, appended.
say() { printf '%s\n' "$*" >>"$folder/witness"; }

# When it was forked: the same count as uptime, which is read between two looks at the clock.
before=$EPOCHREALTIME
read -r uptime _ </proc/uptime
after=$EPOCHREALTIME
read -r stat </proc/$$/stat
stat=(${stat##*) })
payload=${SISYPHUS_PAYLOAD//[!0-9]/}
say start "$me" "$SISYPHUS_JOB" "$SISYPHUS_ATTEMPT" "$SISYPHUS_HOST" "$SISYPHUS_DUE_AT" \
    "$before" "$after" "$uptime" "${stat[19]}" "${payload:--}" "${CHAOS_DEFINITION:-0}"

# Nobody writes to this pipe: a pause without a process.
exec 9<>"$folder/never"
for ((i = from + RANDOM % (to - from + 1); i > 0; i--)); do
    read -r -t 0.1 -u 9
    ((i % 2)) || say beat "$me" "$EPOCHREALTIME"
done
((bytes == 0)) || printf '%*s\n' "$bytes" out
code=$((RANDOM % 100 < fails ? 3 : 0))
say end "$me" "$code" "$EPOCHREALTIME"
exit "$code"
