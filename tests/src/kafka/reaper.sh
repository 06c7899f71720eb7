# Ends a cluster's nodes when the process that started them is gone.
#
# That process holds the other end of standard input and writes a line for each node: "run PID",
# "ended PID". However it ends, the input ends with it; then what still runs is killed and the
# cluster's folder ($1) removed. "release" leaves both alone.
trap '' HUP INT TERM
nodes=
while read -r word node; do
    case $word in
    run) nodes="$nodes $node" ;;
    ended)
        left=
        for other in $nodes; do [ "$other" = "$node" ] || left="$left $other"; done
        nodes=$left
        ;;
    release) exit 0 ;;
    esac
done
for node in $nodes; do kill -9 "$node"; done
for node in $nodes; do
    waited=0
    while kill -0 "$node" && [ "$waited" -lt 40 ]; do
        sleep 0.05
        waited=$((waited + 1))
    done
done
rm -rf -- "$1"
