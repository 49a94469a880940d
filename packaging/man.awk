# man.awk -- turns one help text of moesim into a manual page.
#
#     usage: ...            SYNOPSIS, to the first empty line
#     text                  DESCRIPTION; indented lines as they stand
#     -o, --option X  text  OPTIONS; deeper lines below go on with the text
#     example:              EXAMPLES, to the end
#
# Variables: name (of the page), summary, version, pages (all others, for SEE ALSO).

function escape(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    sub(/^[.']/, "\\\\\\&&", text)
    return text
}

function section(title) {
    if (title != current) {
        literal(0)
        print ".SH " title
        current = title
        paragraph = 0
    }
}

function literal(wanted) {
    if (wanted != is_literal) {
        print wanted ? ".PP\n.nf" : ".fi\n.PP"
        is_literal = wanted
    }
}

# An option's column of text begins behind two spaces.
function option(line,    at) {
    literal(0)
    section("OPTIONS")
    sub(/^ +/, "", line)
    at = match(line, /  +/)
    print ".TP"
    print ".B " escape(at ? substr(line, 1, RSTART - 1) : line)
    if (at) {
        print escape(substr(line, RSTART + RLENGTH))
    }
    in_option = 1
}

BEGIN {
    printf ".TH %s 1 \"\" \"%s\" \"moesim manual\"\n", toupper(name), escape(version)
    print ".SH NAME"
    print escape(name) " \\- " escape(summary)
}

/^usage:/ {
    section("SYNOPSIS")
    sub(/^usage: */, "")
    print ".nf\n.B " escape($0) "\n.fi"
    in_usage = 1
    next
}
# A second form of the command, or what the first line has no room for.
in_usage && /^ / {
    sub(/^       /, "") # as wide as "usage: "
    print ".nf\n\\fB" escape($0) "\\fP\n.fi"
    next
}
# The program's own help introduces itself before its usage.
!current && name == "moesim" { introduction = introduction escape($0) "\n"; next }
current == "SYNOPSIS" && introduction != "" {
    section("DESCRIPTION")
    printf "%s", introduction
    introduction = ""
}
/^examples?:/ {
    section("EXAMPLES")
    next
}
current == "EXAMPLES" {
    literal(1)
    print escape($0)
    next
}
/^ *-[a-z], --[a-z]|^ +--[a-z]/ {
    option($0)
    next
}
in_option && /^          / {
    sub(/^ +/, "")
    print escape($0)
    next
}
/^$/ {
    in_option = 0
    in_usage = 0
    if (is_literal) {
        print ""
    }
    paragraph = 1
    next
}
/^ / {
    in_option = 0
    section(current == "OPTIONS" || current == "NOTES" ? "NOTES" : "DESCRIPTION")
    literal(1)
    print escape($0)
    next
}
{
    in_option = 0
    section(current == "OPTIONS" || current == "NOTES" ? "NOTES" : "DESCRIPTION")
    literal(0)
    if (paragraph) {
        print ".PP"
    }
    paragraph = 0
    print escape($0)
}

END {
    literal(0)
    print ".SH \"EXIT STATUS\""
    print "0: done. 1: the input is wrong, and the message says where. 2: an internal error, or out"
    print "of memory."
    print ".SH ENVIRONMENT"
    print ".TP\n.B MOESIM_DATA"
    print "The directory that holds scenarios/ and reports/, instead of the one that was installed."
    print ".SH \"SEE ALSO\""
    count = split(pages " moesim", page, " ")
    separator = ""
    for (i = 1; i <= count; i++) {
        if (page[i] != name && (name == "moesim" || page[i] == "moesim" ||
            index(page[i], name "-") == 1 || index(name, page[i] "-") == 1)) {
            printf "%s.BR %s (1)", separator, escape(page[i])
            separator = ",\n"
        }
    }
    print ""
}
