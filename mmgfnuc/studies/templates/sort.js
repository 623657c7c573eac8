'use strict';

const value = (row, column) => row.cells[column].dataset.value;

// Numbers by size, names by the alphabet; what has no value comes last in both directions.
function compare(a, b, sign) {
  if (a === '' || b === '') return (a === '') - (b === '');
  return sign * (isNaN(a) || isNaN(b) ? (a > b) - (a < b) : a - b);
}

function sort(table, heading, column) {
  const now = heading.getAttribute('aria-sort') ?? heading.dataset.last;
  const order = now === 'descending' ? 'ascending' : 'descending';
  for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
  heading.setAttribute('aria-sort', order);
  const sign = order === 'ascending' ? 1 : -1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(value(a, column), value(b, column), sign));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll('table.sortable')) {
  table.caption.append('; a click on a heading sorts by it');
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...heading.childNodes);
    button.addEventListener('click', () => sort(table, heading, column));
    heading.append(button);
  });
}
