# Evaluates the regions that .ci/coverage lists, and prints the table. Fails if an
# uncovered region has no exception, or if an exception matches no uncovered region.

function trim(text) { gsub(/^[ \t]+|[ \t]+$/, "", text); return text }

function fail(text) { print text; failed = 1 }

# Returns the part of the project that a file belongs to, or "" if not measured.
function part(file) {
    if (file ~ /(^|\/)tests(\/|\.rs$)/ || file ~ /\/testing\.rs$/) return ""
    if (file ~ /^spec\/(gen\/)?src\//) return "spec"
    if (file ~ /^codec\/src\/generated\//) return "codec, generated"
    if (file ~ /^codec\/src\//) return "codec, by hand"
    if (file ~ /^engine\/src\/protocol\/destination\//) return "destination core"
    if (file ~ /^engine\/src\/protocol\/source\//) return "source core"
    if (file ~ /^engine\/src\/protocol\/(bits|blocks|page_set|pages|stats|zero)\.rs$/) return "bits, blocks, pages"
    return ""
}

# Reads a source file: its lines, and the start of its test module.
function read(file,    n, line, before) {
    ends[file] = 1e9
    while ((getline line < (top file)) > 0) {
        text[file, ++n] = line
        if (line ~ /^mod tests? \{/ && before ~ /cfg\(test\)/) ends[file] = n
        before = line
    }
    close(top file)
}

BEGIN {
    FS = "\t"
    while ((getline line < exceptions) > 0) {
        if (line ~ /^#/) { reason = 1; continue }
        if (line == "") { reason = 0; continue }
        if (split(line, field, / \| /) != 3 || !reason) fail(exceptions ": no reason, or not FILE | LINE | REGION: " line)
        excused[field[1], field[2], field[3]] = line
    }
}

{
    file = substr($1, length(top) + 1)
    if (index($1, top) != 1 || part(file) == "") next
    if (!(file in ends)) read(file)
    if ($2 >= ends[file]) next
    key = file FS $2 FS $3 FS $4 FS $5
    if (!(key in head)) order[++count] = key
    head[key] = $7
    reached[key] += $6
}

END {
    for (i = 1; i <= count; i++) {
        key = order[i]
        split(key, at, FS)
        file = at[1]
        name = part(file)
        total[name]++
        if (reached[key] > 0) { hit[name]++; continue }
        line = text[file, at[2]]
        region = at[2] == at[4] ? substr(line, at[3], at[5] - at[3]) : substr(line, at[3])
        split(file SUBSEP trim(line) SUBSEP region "\n" file SUBSEP trim(line) SUBSEP "all" "\n" file SUBSEP trim(text[file, head[key]]) SUBSEP "all", ways, "\n")
        for (way = 1; way <= 3 && !(ways[way] in excused); way++);
        if (way <= 3) { used[ways[way]] = 1; spared[name]++; continue }
        if (name ~ /^(spec|codec)/) fail(file ":" at[2] ":" at[3] ": not covered: " region)
    }
    for (way in excused) if (!(way in used)) fail(exceptions ": covered, or does not exist: " excused[way])

    split("spec;codec, by hand;codec, generated;destination core;source core;bits, blocks, pages", names, ";")
    print "coverage by tests and corpus      regions   covered  excepted   of the rest"
    for (i = 1; i <= 6; i++) {
        name = names[i]
        rest = total[name] - spared[name]
        if (rest == 0) { fail("no regions measured: " name); continue }
        share = 100 * hit[name] / rest
        printf "%-32s  %8d  %8d  %8d  %10.2f %%\n", name, total[name], hit[name], spared[name], share
        least = i <= 3 ? 100 : 95
        if (share < least) fail(name ": less than " least " %")
    }
    exit failed
}
