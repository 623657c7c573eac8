"""The look of the page: light or dark as the reader's screen, from the width of a phone up."""

STYLE = """
:root{color-scheme:light dark;--ground:#fbfaf8;--card:#fff;--ink:#1d1b22;--faint:#66616f;--line:#dedae3;
--accent:#5b4b9a;--error:#b3261e;--warning:#8a5a00;--remark:#4d6478}
@media (prefers-color-scheme:dark){:root{--ground:#17161b;--card:#201f26;--ink:#ebe8f0;--faint:#a39eae;--line:#3a3743;
--accent:#a99be8;--error:#ff8a80;--warning:#f2bd5a;--remark:#9db7cc}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:80rem;margin:auto;padding:1rem clamp(.75rem,3vw,2rem) 3rem}
h1{margin:.5rem 0 0;font-size:1.9rem;overflow-wrap:anywhere}
h2{margin:2.2rem 0 .6rem;font-size:1.25rem}
.verdict{margin:.2rem 0 1rem;color:var(--faint)}
.verdict.bad{color:var(--error);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.8rem 0}
dt,.note{color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere;min-width:0}
.note{font-size:.85rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));gap:.6rem}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem;
color:var(--faint);font-size:.85rem}
.tiles b{display:block;color:var(--ink);font-size:1.35rem}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{color:var(--faint);font-weight:500}
th:first-child,td:first-child{text-align:left;padding-left:0}

.swatch{display:inline-block;width:.95em;height:.95em;border:1px solid var(--line);border-radius:.2em;
vertical-align:-.1em}
.hatched{background:repeating-linear-gradient(135deg,#fff 0 1px,#282828 1px 2px,transparent 2px 5px)}
details{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--kind);border-radius:.4rem;
margin:.4rem 0;padding:.45rem .8rem;overflow-wrap:anywhere}
summary{cursor:pointer}
summary span{color:var(--kind);font-weight:600}
.error{--kind:var(--error)}.warning{--kind:var(--warning)}.remark{--kind:var(--remark)}
details p{margin:.4rem 0}
details ul{margin:.3rem 0;padding-left:1.2rem;font-size:.88rem;color:var(--faint)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr));gap:1rem}
svg{width:100%;height:auto;background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.5rem}
rect{fill:var(--accent)}
path{stroke:var(--faint);fill:none}
.grid{stroke:var(--line)}
.median{stroke:var(--ink);stroke-dasharray:3 2}
text{fill:var(--faint);font-size:10.5px}
.title{fill:var(--ink);font-size:12px}
.legend{display:inline-flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;margin:0 0 .8rem 1.2rem;padding:0}
label{margin-left:.35rem}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(46%,15rem),1fr));gap:.9rem;align-items:start}
figure{margin:0;min-width:0}
figcaption{font-size:.8rem;color:var(--faint);overflow-wrap:anywhere;line-height:1.35;margin-top:.25rem}
figcaption b{display:block;color:var(--ink);font-weight:600}
.picture{position:relative}
.picture img{position:absolute;inset:0;width:100%;height:100%;object-fit:contain;border-radius:.3rem}
.picture a{position:absolute;inset:0}
.close{display:none}
#contours:not(:checked)~.sheet .contours{display:none}
.picture:target{position:fixed;inset:0;z-index:1;aspect-ratio:auto!important;background:var(--ground)}
.picture:target .open{display:none}
.picture:target .close{display:block;cursor:zoom-out}
"""
