//! From total scores to an ordered list.

use crate::draw::Draw;
use crate::table::profile::Picker;

/// Indices into `totals`, best first, at most `choices`. `preferred` comes first when given.
pub(super) fn pick(
    picker: Picker,
    totals: &[f64],
    preferred: Option<usize>,
    choices: usize,
    draw: &mut Draw,
) -> Vec<usize> {
    let mut order = shuffled(totals.len(), draw);
    let total = |index: usize| totals.get(index).copied().unwrap_or(0.0);
    match picker {
        Picker::Random => {}
        Picker::MaxScore => order.sort_by(|&a, &b| total(b).total_cmp(&total(a))),
        Picker::WeightedRandom => {
            // Efraimidis and Spirakis (2006): the highest of U^(1/w) is drawn with a chance in proportion to w.
            let key =
                |weight: f64, draw: &mut Draw| if weight > 0.0 { libm::pow(draw.unit(), 1.0 / weight) } else { -1.0 };
            let mut keyed: Vec<(f64, usize)> = order.iter().map(|&index| (key(total(index), draw), index)).collect();
            keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
            order = keyed.into_iter().map(|(_, index)| index).collect();
        }
    }
    if let Some(preferred) = preferred {
        order.retain(|&index| index != preferred);
        order.insert(0, preferred);
    }
    order.truncate(choices);
    order
}

/// Fisher and Yates.
fn shuffled(count: usize, draw: &mut Draw) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for left in (2..=count).rev() {
        let other = usize::try_from(draw.below(u32::try_from(left).unwrap_or(u32::MAX))).unwrap_or(0);
        order.swap(left - 1, other);
    }
    order
}
