//! What a user of Karst writes: the message, the feature classes, the stream resolvers.

use karst::prelude::*;

/// One flight, as a record of the topic `flights` tells it once it has landed.
#[derive(Message)]
pub(crate) struct Flight {
    pub(crate) carrier: Str,
    pub(crate) number: u32,
    /// The tail number of the aircraft; for some flights it is not known.
    pub(crate) tailnum: Option<Str>,
    pub(crate) origin: Str,
    pub(crate) destination: Str,
    /// Null for a cancelled flight: then the record's own time stands in.
    #[message(event_time)]
    pub(crate) departure_at: Option<EventTime>,
    pub(crate) departure_delay_minutes: Option<i64>,
    pub(crate) air_time_minutes: Option<i64>,
}

#[features(key = "id")]
#[allow(dead_code)] // a declaration: nobody makes one
pub(crate) struct Aircraft {
    /// The tail number.
    id: Str,
    last_flight: Str,
    last_origin: Str,
    last_destination: Str,
    last_departure_at: EventTime,
    last_departure_delay_minutes: Option<i64>,
    #[windowed("1d", "7d", count, retention = "400d")]
    flights: Windowed<i64>,
    #[windowed("all", last_n(last_destination, 3), retention = "400d", unbounded)]
    last_destinations: Windowed<Vec<Str>>,
}

/// An airport of New York: EWR, JFK or LGA.
#[features(key = "id")]
#[allow(dead_code)]
pub(crate) struct Origin {
    id: Str,
    last_carrier: Str,
    last_tailnum: Option<Str>,
    last_delay_minutes: Option<i64>,
    #[windowed("1h", "1d", count, retention = "400d")]
    departures: Windowed<i64>,
    #[windowed("1h", "1d", mean(last_delay_minutes), retention = "400d")]
    mean_delay: Windowed<f64>,
    #[windowed("1h", "1d", approx_percentile(last_delay_minutes, 0.95), retention = "400d")]
    p95_delay: Windowed<f64>,
    #[windowed("1h", "1d", max(last_delay_minutes), retention = "400d")]
    max_delay: Windowed<i64>,
    /// Different ones.
    #[windowed("1d", approx_count_distinct(last_tailnum), retention = "400d")]
    aircraft: Windowed<i64>,
    #[windowed("1d", approx_top_k(last_carrier, 5), retention = "400d")]
    top_carriers: Windowed<Vec<Str>>,
}

#[features(key = "id")]
#[allow(dead_code)]
pub(crate) struct Route {
    /// `EWR-IAH`.
    id: Str,
    last_carrier: Str,
    last_departure_at: EventTime,
    last_air_time_minutes: Option<i64>,
    #[windowed("7d", mean(last_air_time_minutes), retention = "400d")]
    mean_air_time: Windowed<f64>,
}

/// `None`, so nothing, for cancelled flights and for those whose tail number is not known.
#[stream(source = "flights")]
pub(crate) fn aircraft(
    flight: &Flight,
) -> Option<
    Updates![
        Aircraft::id,
        Aircraft::last_flight,
        Aircraft::last_origin,
        Aircraft::last_destination,
        Aircraft::last_departure_at,
        Aircraft::last_departure_delay_minutes,
    ],
> {
    Some(updates!(
        flight.tailnum.clone()?,
        Str::from(format!("{}{}", flight.carrier, flight.number)),
        flight.origin.clone(),
        flight.destination.clone(),
        flight.departure_at?,
        flight.departure_delay_minutes,
    ))
}

/// `None` for cancelled flights. When it happened is the event time, of which windows are.
#[stream(source = "flights")]
pub(crate) fn origin(
    flight: &Flight,
) -> Option<Updates![Origin::id, Origin::last_carrier, Origin::last_tailnum, Origin::last_delay_minutes]> {
    flight.departure_at?;
    Some(updates!(flight.origin.clone(), flight.carrier.clone(), flight.tailnum.clone(), flight.departure_delay_minutes))
}

/// `None` for cancelled flights.
#[stream(source = "flights")]
pub(crate) fn route(
    flight: &Flight,
) -> Option<Updates![Route::id, Route::last_carrier, Route::last_departure_at, Route::last_air_time_minutes]> {
    let departure_at = flight.departure_at?;
    let id = Str::from(format!("{}-{}", flight.origin, flight.destination));
    Some(updates!(id, flight.carrier.clone(), departure_at, flight.air_time_minutes))
}
