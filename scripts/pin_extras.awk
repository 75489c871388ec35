# Repeats every pin of a package with extras (google-auth[requests]==2.62.2) without them. If another package requires the
# bare one, pip before 23.3 does not see that the line with extras pins it too: it takes the newest release, and then
# rejects it for having no hash.
function repeat() { if (pin) print pin; pin = "" }
!/^    --hash/ { repeat() }
/^[a-z0-9._-]+\[/ { pin = $0; sub(/\[[^]]*\]/, "", pin); print; next }
pin { pin = pin "\n" $0 }
{ print }
END { repeat() }
