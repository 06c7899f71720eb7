# Ends a cluster's nodes, or a run's workers, when the process that started them is gone.
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
for pass in 1 2 3 4 5; do
    rm -rf -- "$1"
    # A node that was just killed may have written once more.
    [ -z "$nodes" ] || sleep 0.2
    [ -e "$1" ] || break
done
