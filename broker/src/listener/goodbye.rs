//! Which close code of WebSocket says what a Reason Code of MQTT says: clients of older versions, and
//! whoever never came as far as CONNECT, have no other word.

use tidings_core::codec::ReasonCode;

use super::frames::CloseCode;

impl From<ReasonCode> for CloseCode {
    fn from(reason: ReasonCode) -> Self {
        use ReasonCode as R;
        match reason {
            R::Success | R::DisconnectWithWill => Self::Normal,
            R::ServerShuttingDown => Self::GoingAway,
            R::ProtocolError
            | R::TopicAliasInvalid
            | R::ReceiveMaximumExceeded
            | R::UnsupportedProtocolVersion => Self::ProtocolError,
            R::MalformedPacket | R::PayloadFormatInvalid => Self::InvalidData,
            R::PacketTooLarge => Self::TooBig,
            R::ServerUnavailable
            | R::ServerBusy
            | R::QuotaExceeded
            | R::MessageRateTooHigh
            | R::ConnectionRateExceeded
            | R::UseAnotherServer
            | R::ServerMoved => Self::TryAgainLater,
            R::UnspecifiedError | R::ImplementationSpecificError => Self::InternalError,
            // Not allowed, not any more, or not here.
            _ => Self::Policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mqtt_says_is_said_by_a_close_code_too() {
        for (reason, code) in [
            (ReasonCode::Success, 1000),
            (ReasonCode::ServerShuttingDown, 1001),
            (ReasonCode::ProtocolError, 1002),
            (ReasonCode::MalformedPacket, 1007),
            (ReasonCode::NotAuthorized, 1008),
            (ReasonCode::SessionTakenOver, 1008),
            (ReasonCode::KeepAliveTimeout, 1008),
            (ReasonCode::PacketTooLarge, 1009),
            (ReasonCode::UnspecifiedError, 1011),
            (ReasonCode::QuotaExceeded, 1013),
        ] {
            assert_eq!(CloseCode::from(reason) as u16, code, "{reason:?}");
        }
    }
}
