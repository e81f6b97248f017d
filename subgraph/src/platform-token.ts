import { BigInt, Bytes, crypto, ethereum, log } from '@graphprotocol/graph-ts'
import { AuthorizationUsed } from '../generated/PlatformToken/PlatformToken'
import { X402Payment } from '../generated/schema'
import { chainId, logId } from './chain'

/** EIP-3009 says who authorized; what moved is the transfer that follows in the same token and transaction. */
export function handleAuthorizationUsed(event: AuthorizationUsed): void {
  const receipt = event.receipt
  if (receipt == null) {
    log.critical('AuthorizationUsed without a receipt: the manifest must ask for it', [])
    return
  }
  const transfer = transferAfter(event, receipt)
  // A token may authorize without moving anything.
  if (transfer == null) return
  const payment = new X402Payment(logId(event))
  payment.chainId = chainId()
  payment.token = event.address
  payment.payer = event.params.authorizer
  payment.payee = addressOfTopic(transfer.topics[2])
  payment.amount = BigInt.fromUnsignedBytes(Bytes.fromUint8Array(transfer.data.slice().reverse()))
  payment.nonce = event.params.nonce
  payment.createdAt = event.block.timestamp
  payment.createdAtBlock = event.block.number
  payment.createdTx = event.transaction.hash
  payment.save()
}

/** The first transfer out of the authorizer's balance after the authorization. */
function transferAfter(
  event: AuthorizationUsed,
  receipt: ethereum.TransactionReceipt,
): ethereum.Log | null {
  const transferTopic = crypto.keccak256(Bytes.fromUTF8('Transfer(address,address,uint256)'))
  for (let i = 0; i < receipt.logs.length; i++) {
    const entry = receipt.logs[i]
    if (
      event.logIndex < entry.logIndex &&
      entry.address == event.address &&
      entry.topics.length == 3 &&
      entry.topics[0] == transferTopic &&
      addressOfTopic(entry.topics[1]) == event.params.authorizer
    ) {
      return entry
    }
  }
  return null
}

function addressOfTopic(topic: Bytes): Bytes {
  return Bytes.fromUint8Array(topic.subarray(12))
}
